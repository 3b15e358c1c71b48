/** Hooks per conversation. */
export const HOOKS_PER_CONVERSATION_MAX = 100;
/** UTF-16 units of a hook's name and of the author name of its posts, after trimming. */
export const HOOK_NAME_CHARS_MAX = 80;
/** Allowed clock skew between a sender and this server, in either direction. */
export const SIGNATURE_TOLERANCE_S = 5 * 60;
/** Signatures checked per post: two during secret rotation, and some spare. */
export const SIGNATURES_MAX = 10;
