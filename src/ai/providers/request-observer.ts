/** Callbacks for one provider's requests. */
export type RequestObserver = {
  /** Called when a request is sent again because the server closed a reused connection without a response. */
  onResend?: (() => void) | undefined;
  /** Called when a model has rejected a parameter, which is then no longer sent. `model` is the provider's own name. */
  onParameterRejected?: ((model: string, parameter: string) => void) | undefined;
};
