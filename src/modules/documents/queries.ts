import { requireRow, type Sql } from "../../db/client.ts";
import type { Heading } from "./markdown.ts";

/** Text, and its words prepared for the index. */
type IndexedText = { text: string; words: string };

export type DocumentRow = { path: string; title: string; size: number; updated_at: Date; headings: Heading[] };
/** A search result. */
export type DocumentHit = { path: string; rank: number };
export type IndexedFile = { path: string; hash: string; updated_at: Date };

export type NewDocument = {
  path: string;
  title: IndexedText;
  headings: Heading[];
  headingWords: string;
  content: { words: string };
  size: number;
  hash: string;
  updatedAt: Date;
  passages: { heading: string | null; headingWords: string; content: IndexedText }[];
};

/** The id of the advisory lock for changing the index. It is arbitrary, but the same on every instance. */
const INDEX_LOCK = 7_275_540;

/** Locks the index against changes by other instances until the transaction ends. */
export async function lockIndex(sql: Sql): Promise<void> {
  await sql`select pg_advisory_xact_lock(${INDEX_LOCK})`;
}

export async function listIndexedFiles(sql: Sql): Promise<IndexedFile[]> {
  return await sql<IndexedFile[]>`select path, hash, updated_at from documents`;
}

/** Increments the index's generation, which invalidates the instances' cached searches. */
export async function incrementGeneration(sql: Sql): Promise<void> {
  await sql`update document_index set generation = generation + 1`;
}

export async function deleteDocuments(sql: Sql, paths: string[]): Promise<void> {
  await sql`delete from documents where path = any(${paths})`;
}

export async function updateDocumentTime(sql: Sql, path: string, updatedAt: Date): Promise<void> {
  await sql`update documents set updated_at = ${updatedAt} where path = ${path}`;
}

/** Adds a document and its passages to the index, or replaces them. */
export async function upsertDocument(sql: Sql, document: NewDocument): Promise<void> {
  const { path, title, headings, headingWords, content, size, hash, updatedAt, passages } = document;
  await sql`
    insert into documents (path, title, headings, size, hash, updated_at, words)
    values (${path}, ${title.text}, ${sql.json(headings)}, ${size}, ${hash}, ${updatedAt},
            document_words(${title.words}, ${headingWords}, ${content.words}))
    on conflict (path) do update
      set title = excluded.title, headings = excluded.headings, size = excluded.size, hash = excluded.hash,
          updated_at = excluded.updated_at, words = excluded.words`;
  await sql`delete from document_passages where path = ${path}`;
  await sql`
    insert into document_passages (path, position, heading, content, words)
    select ${path}, position, heading, content, document_words(heading_words, ${title.words}, content_words)
      from unnest(${passages.map(({ heading }) => heading)}::text[],
                  ${passages.map((passage) => passage.headingWords)}::text[],
                  ${passages.map((passage) => passage.content.text)}::text[],
                  ${passages.map((passage) => passage.content.words)}::text[])
           with ordinality as passage (heading, heading_words, content, content_words, position)`;
}

/** Lists documents by path. `after` is the last path of the previous page. */
export async function listDocuments(sql: Sql, after: string | null, rowsMax: number): Promise<DocumentRow[]> {
  return await sql<DocumentRow[]>`
    select path, title, size, updated_at, headings
      from documents
     where ${after}::text is null or path > ${after}
     order by path
     limit ${rowsMax}`;
}

/** Finds all matches, best first, and the index generation in which they were found. */
export async function searchDocuments(sql: Sql, query: string): Promise<{ generation: number; hits: DocumentHit[] }> {
  // Returns two arrays, because the driver would take longer for thousands of rows.
  const [row] = await sql<{ generation: number; paths: string[] | null; ranks: number[] | null }[]>`
    select i.generation, f.paths, f.ranks from document_index i, (
      select array_agg(path) as paths, array_agg(rank) as ranks from search_documents(${query})) f`;
  const { generation, paths, ranks } = requireRow(row, "index");
  return { generation, hits: (paths ?? []).map((path, index) => ({ path, rank: ranks?.[index] ?? 0 })) };
}

/** Finds these documents, if they still exist, and the current index generation. */
export async function findDocuments(
  sql: Sql,
  paths: string[],
): Promise<{ generation: number; rows: Map<string, DocumentRow> }> {
  const rows = await sql<({ generation: number } & { [K in keyof DocumentRow]: DocumentRow[K] | null })[]>`
    select i.generation, d.* from document_index i left join lateral (
      select path, title, size, updated_at, headings from documents where path = any (${paths})) d on true`;
  const foundRows = rows.filter((row): row is { generation: number } & DocumentRow => row.path !== null);
  return {
    generation: requireRow(rows[0], "index").generation,
    rows: new Map(foundRows.map(({ generation: _, ...row }) => [row.path, row])),
  };
}

/**
 * Lists each document's best passage for these words, or its first passage if none matches. `content` is null if the document has no
 * passages.
 */
export async function listBestPassages(
  sql: Sql,
  paths: string[],
  words: string[],
): Promise<{ path: string; content: string | null }[]> {
  return await sql<{ path: string; content: string | null }[]>`
    select wanted.path, best.content
      from unnest(${paths}::text[]) as wanted (path)
      left join lateral (
        select content
          from document_passages as passage, document_query(${joinAlternatives(words)}) as query
         where passage.path = wanted.path
         order by ts_rank(passage.words, query, 1) desc, passage.position
         limit 1) as best on true`;
}

/** Shortens each text to excerpts that contain the words. The words are marked with `start` and `stop`. */
export async function highlightWords(
  sql: Sql,
  texts: string[],
  words: string[],
  { start, stop }: { start: string; stop: string },
): Promise<string[]> {
  const options = `StartSel=${start},StopSel=${stop},MaxFragments=2,MinWords=8,MaxWords=24,ShortWord=0,FragmentDelimiter=" … "`;
  const rows = await sql<{ headline: string }[]>`
    select ts_headline('pg_catalog.english', content, query, ${options}) as headline
      from document_query(${joinAlternatives(words)}) as query,
           unnest(${texts}::text[]) with ordinality as wanted (content, position)
     order by position`;
  return rows.map(({ headline }) => headline);
}

/**
 * Finds the passages that best answer a question. A passage doesn't have to contain all words. Rare words count more, so that topic words
 * outweigh common words. English stop words count only if there are no other words. `compounds` are additional words to search for.
 */
export async function searchPassages(
  sql: Sql,
  { words, compounds, rowsMax }: { words: string[]; compounds: string[]; rowsMax: number },
): Promise<{ path: string; title: string; heading: string | null; content: string }[]> {
  return await sql<{ path: string; title: string; heading: string | null; content: string }[]>`
    with question_words as materialized (
      select word, numnode(plainto_tsquery('pg_catalog.english', word)) > 0 as is_significant
        from unnest(${words}::text[]) as question_words (word)
    ), terms as materialized (
      select word, document_query('"' || word || '"') as query
        from (select word from question_words where is_significant or not exists (select from question_words where is_significant)
              union
              select word from unnest(${compounds}::text[]) as compound (word)) as counted
    ), hits as (
      select terms.word, passage.path, passage.position, ts_rank(passage.words, terms.query, 1) as rank
        from terms join document_passages as passage on passage.words @@ terms.query
    ), weights as (
      select word, ln(1 + (select count(*) from document_passages)::float8 / count(*)) as weight
        from hits group by word
    ), scores as (
      select path, position, sum(rank * weight) as score
        from hits join weights using (word)
       group by path, position
       order by score desc, path, position
       limit ${rowsMax}
    )
    select path, title, passage.heading, passage.content
      from scores join document_passages as passage using (path, position) join documents using (path)
     order by score desc, path, position`;
}

/** Creates a query for any of these words. They are quoted, so that `or` and `-` aren't operators. */
function joinAlternatives(words: string[]): string {
  return words.map((word) => `"${word}"`).join(" or ");
}
