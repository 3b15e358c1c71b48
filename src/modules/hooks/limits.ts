/** Hooks of one conversation. */
export const HOOKS_PER_CONVERSATION_MAX = 100;
/** UTF-16 units of a hook's name, and of the name under which it posts, after trimming. */
export const HOOK_NAME_CHARS_MAX = 80;
/** What the clocks of a sender and of this server may differ by, in either direction. */
export const SIGNATURE_TOLERANCE_S = 5 * 60;
/** Signatures of one post that are looked at: two while a secret rotates, and some room. */
export const SIGNATURES_MAX = 10;
