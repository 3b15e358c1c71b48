/** The response didn't come from a model server: a wrong address or a proxy, which retrying doesn't fix. For the log. */
export class UnexpectedAnswerError extends Error {}
