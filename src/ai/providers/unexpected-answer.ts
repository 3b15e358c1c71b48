/** What came is no answer of a model's server: a wrong address or a proxy, which no retry mends. For the log. */
export class UnexpectedAnswerError extends Error {}
