/** The response didn't come from a model server, for example because the URL is wrong. Retrying doesn't help. */
export class UnexpectedResponseError extends Error {}
