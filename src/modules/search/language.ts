/** The name of a Postgres text search configuration. */
export const nameConfiguration = (language: string): string => `pg_catalog.${language}`;
