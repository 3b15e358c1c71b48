import type { Provider } from "../../provider.ts";
import { createProviderError } from "../../provider-error.ts";
import { noUsage } from "../../usage.ts";

/** The built-in model, which needs no key and no network. */
export const OFFLINE_MODEL = "offline/documents";

const PASSAGES_MAX = 3;
/** Maximum length of a search query, in UTF-16 code units. */
const QUERY_LENGTH_MAX = 500;
/** Maximum length of a quoted passage, in UTF-16 code units. */
const SNIPPET_LENGTH_MAX = 1_500;

type Passage = { path: string; title: string; heading: string | null; snippet: string };

/** Searches the Markdown documents. Returns the best passages first. */
export type SearchDocuments = (query: string, limit: number) => Promise<Passage[]>;

/**
 * Creates the offline provider, which answers with passages from the Markdown documents.
 * @param options.isOnlyProvider whether no other models are configured.
 */
export function createOfflineProvider(options: {
  searchDocuments: SearchDocuments;
  isOnlyProvider: boolean;
}): Provider {
  const notice = options.isOnlyProvider
    ? "I am offline: no AI model is configured on this server, so nothing here is written by a model."
    : "I am offline: none of the configured AI models can be reached, so this is not written by a model.";
  return {
    name: "offline",
    async stream({ model, messages, partial }, push) {
      if (`offline/${model}` !== OFFLINE_MODEL)
        return { type: "error", error: createProviderError("provider_refused", `there is no offline/${model}`) };
      const question = messages.findLast(({ role }) => role === "user")?.content ?? "";
      let passages: Passage[];
      try {
        passages = await options.searchDocuments(question.slice(0, QUERY_LENGTH_MAX), PASSAGES_MAX);
      } catch (error) {
        const cause = error instanceof Error ? error.message : "the search failed";
        return { type: "error", error: createProviderError("provider_unavailable", cause) };
      }
      // Passages can't continue another model's sentence, so they start a new paragraph.
      const introduction = partial === null ? notice : `\n\n${notice}`;
      for (const text of `${introduction}\n\n${writeAnswer(passages)}`.match(/\s*\S+/g) ?? [])
        push({ type: "text", text });
      return { type: "finish", reason: "stop", usage: { ...noUsage } };
    },
  };
}

function writeAnswer(passages: Passage[]): string {
  if (passages.length === 0) return "I searched the documents and found no passage that fits your question.";
  const sections = passages.map(({ path, title, heading, snippet }) => {
    const name = heading === null || heading === title ? title : `${title} › ${heading}`;
    const quote = snippet.slice(0, SNIPPET_LENGTH_MAX).trim().replaceAll("\n", "\n> ");
    return `**${name}** (\`${path}\`)\n\n> ${quote}`;
  });
  const sources = [...new Set(passages.map(({ path }) => `\`${path}\``))].join(", ");
  return `The documents say this about it:\n\n${sections.join("\n\n")}\n\nSources: ${sources}`;
}
