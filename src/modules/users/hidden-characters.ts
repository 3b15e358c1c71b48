// Controls, line and paragraph separators, and the marks that turn the direction of text: in a name they only serve to
// make it look like another one. Joiners stay, since emoji and several scripts need them.
const hidden = /[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/u;

/** Whether a name or an address holds characters that a reader cannot see but that change what is seen. */
export const hasHiddenCharacters = (text: string): boolean => hidden.test(text);
