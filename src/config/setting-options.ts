/** Properties of a setting apart from its type. */
export type SettingOptions = {
  description: string;
  /** Sample value for `.env.example`. */
  example?: string;
  /** Whether the value is masked in all output, and may be given as a file in `NAME_FILE`. */
  secret?: boolean;
  /** Whether access would be open without this secret. Then its file must not be empty. */
  isGuard?: boolean;
  /** Whether the secret is a URL: then host and path are still printed, because they are helpful and not secret. */
  isAddress?: boolean;
  /** Whether many programs read this name, also in lowercase. The uppercase name takes precedence. */
  isSystemWide?: boolean;
};
