/**
 * Creates a function that runs `work` at most once per interval. The first call runs it immediately. Further calls during the
 * interval run it once, when the interval ends.
 */
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

  const throttled = (): void => {
    if (timer === undefined) run();
    else isPending = true;
  };
  return Object.assign(throttled, {
    cancel(): void {
      isPending = false;
      clearTimeout(timer);
    },
  });
}
