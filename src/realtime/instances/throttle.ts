/** Runs `work` at once, but not more often than every `pauseMs`: calls in between are one call at the end of the pause. */
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
