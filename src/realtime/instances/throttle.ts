/** Runs `work` immediately, but at most every `pauseMs`: calls in between become one call at the end of the pause. */
export function createThrottle(pauseMs: number, work: () => void) {
  let timer: Timer | undefined;
  let isAsked = false;

  function run(): void {
    isAsked = false;
    timer = setTimeout(() => {
      timer = undefined;
      if (isAsked) run();
    }, pauseMs);
    work();
  }

  const call = (): void => {
    if (timer === undefined) run();
    else isAsked = true;
  };
  return Object.assign(call, {
    cancel(): void {
      isAsked = false;
      clearTimeout(timer);
    },
  });
}
