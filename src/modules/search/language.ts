/** The name of a language's configuration in Postgres. */
export const nameConfiguration = (language: string): string => `pg_catalog.${language}`;
