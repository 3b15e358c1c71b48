/** What a setting says of itself, besides its form. */
export type SettingOptions = {
  description: string;
  /** Sample value for `.env.example`. */
  example?: string;
  /** Masked in every print, and readable from the file named by `NAME_FILE`. */
  secret?: boolean;
  /** Of a secret one: without it something would be open that is meant to be closed, so its file must not be empty. */
  isGuard?: boolean;
  /** Of a secret one: an address. Its host and path are printed, which say more than they give away. */
  isAddress?: boolean;
  /** A name that many programs read, also in small letters; the capital one goes before it. */
  isSystemWide?: boolean;
};
