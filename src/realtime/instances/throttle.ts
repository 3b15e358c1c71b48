/** Runs `work` immediately, but at most every `pauseMs`: calls in between become one call at the end of the pause. */
export function createThrottle(pauseMs: number, work: () => void) {
  let timer: Timer | undefined;
  let isPending = false;

  function run(): void {
    isPending = false;
    timer = setTimeout(() => {
      timer = undefined;
      if (isPending) run();
    }, pauseMs);
    work();
  }

  const call = (): void => {
    if (timer === undefined) run();
    else isPending = true;
  };
  return Object.assign(call, {
    cancel(): void {
      isPending = false;
      clearTimeout(timer);
    },
  });
}
