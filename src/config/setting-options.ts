/** Properties of a setting other than its type. */
export type SettingOptions = {
  description: string;
  /** Sample value for `.env.example`. */
  example?: string;
  /** Whether the value is secret: it is masked in all output, and `NAME_FILE` may specify a file that contains it. */
  secret?: boolean;
  /** Whether this secret protects access or data. Its file must not be empty. */
  protectsAccess?: boolean;
  /** Whether the secret is a URL. Its host and path are still printed, because they are not secret. */
  isUrl?: boolean;
  /** Whether other programs also read this variable. Its lowercase name is accepted too, but the uppercase one wins. */
  isSystemWide?: boolean;
};
