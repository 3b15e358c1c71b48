/** Hears what becomes of requests to one provider, beside their answers. */
export type RequestObserver = {
  /** A request was sent once more, because the server had closed a reused connection without a response. */
  onRepeat?: (() => void) | undefined;
  /** A model refuses a parameter; it is left out from now on. `model` is the provider's own name. */
  onLearned?: ((model: string, parameter: string) => void) | undefined;
};
