/** Maximum number of hooks per conversation. */
export const HOOKS_PER_CONVERSATION_MAX = 100;
/** Maximum length of a hook's name and of a post's author name after trimming, in UTF-16 code units. */
export const HOOK_NAME_CHARS_MAX = 80;
/** Allowed clock skew between a sender and this server, in either direction. */
export const SIGNATURE_TOLERANCE_S = 5 * 60;
/** Maximum number of signatures checked per post. A sender needs two during secret rotation. */
export const SIGNATURES_MAX = 10;
