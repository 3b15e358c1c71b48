/** Creates a function that runs `work` at most once per interval: on the first call, and after the interval if called again. */
export function createThrottle(intervalMs: number, work: () => void) {
  let timer: Timer | undefined;
  let isPending = false;

  function run(): void {
    isPending = false;
    timer = setTimeout(() => {
      timer = undefined;
      if (isPending) run();
    }, intervalMs);
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
