/** Returns the name of a language's text search configuration in Postgres. */
export const formatConfigurationName = (language: string): string => `pg_catalog.${language}`;
