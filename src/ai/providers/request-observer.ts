/** Receives events about one provider's requests. */
export type RequestObserver = {
  /** A request was repeated because the server had closed a reused connection without a response. */
  onRepeat?: (() => void) | undefined;
  /** A model rejected a parameter, which is omitted from now on. `model` is the provider's own name. */
  onLearned?: ((model: string, parameter: string) => void) | undefined;
};
