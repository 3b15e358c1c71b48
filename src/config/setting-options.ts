/** Properties of a setting besides its type. */
export type SettingOptions = {
  description: string;
  /** Sample value for `.env.example`. */
  example?: string;
  /** Masked in all output, and readable from the file named by `NAME_FILE`. */
  secret?: boolean;
  /** For a secret that protects something: without it, access would be open, so its file must not be empty. */
  isGuard?: boolean;
  /** For a secret address: host and path are printed, because they help and reveal nothing. */
  isAddress?: boolean;
  /** A name that many programs read, also in lowercase; the uppercase name takes precedence. */
  isSystemWide?: boolean;
};
