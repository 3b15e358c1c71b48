/** The response isn't from a model server, for example because the URL is incorrect. Retrying doesn't help. */
export class UnexpectedResponseError extends Error {}
