/** Returns the name of Postgres's text search configuration for a language. */
export const formatConfigurationName = (language: string): string => `pg_catalog.${language}`;
