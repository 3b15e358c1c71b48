/** Callbacks for one provider's requests. */
export type RequestObserver = {
  /** Called when a request is repeated because the server closed a reused connection without a response. */
  onRepeat?: (() => void) | undefined;
  /** Called when a model has rejected a parameter, which is then no longer sent. `model` is the provider's own name. */
  onLearned?: ((model: string, parameter: string) => void) | undefined;
};
