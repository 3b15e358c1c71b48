/** A section of CHANGELOG.md. Its heading is `## 0.1.0 (unreleased)` or `## 0.1.0 (2027-01-31)`. */
type Section = { version: string; date: string; text: string };

const HEADING = /^## (\d+\.\d+\.\d+(?:-[\w.]+)?) \((unreleased|\d{4}-\d{2}-\d{2})\)$/;

/** Splits CHANGELOG.md into its sections, newest first. @throws if a heading has a different format. */
export function parseChangelog(markdown: string): Section[] {
  const [, ...parts] = `\n${markdown}`.split(/\n(?=## )/);
  return parts.map((part) => {
    const [heading = "", ...lines] = part.split("\n");
    const [, version, date] = HEADING.exec(heading) ?? [];
    if (!version || !date)
      throw new Error(
        `CHANGELOG.md: the heading "${heading}" is invalid; write "## 0.1.0 (unreleased)" or "## 0.1.0 (2027-01-31)".`,
      );
    return { version, date, text: lines.join("\n").trim() };
  });
}

/**
 * Returns the reasons why a version can't be released, one sentence each. Without a tag, this is a dry run, so the version
 * may be marked as unreleased.
 */
export function findVersionProblems(version: string, tag: string | undefined, markdown: string): string[] {
  const problems: string[] = [];
  const [newest] = parseChangelog(markdown);
  if (newest?.version !== version)
    problems.push(
      `CHANGELOG.md begins with version ${newest?.version ?? "none"}, but package.json has ${version}: make them equal.`,
    );
  if (newest && newest.text === "") problems.push(`CHANGELOG.md: the section of ${newest.version} is empty.`);
  if (tag === undefined) return problems;
  if (tag !== `v${version}`)
    problems.push(`The tag is ${tag}, but package.json has version ${version}: the tag must be v${version}.`);
  if (newest?.date === "unreleased")
    problems.push(`CHANGELOG.md marks ${newest.version} as unreleased: replace that with the release date.`);
  return problems;
}

/** Creates the release notes from the version's section. */
export function createReleaseNotes(version: string, markdown: string): string {
  const section = parseChangelog(markdown).find((section) => section.version === version);
  if (!section) throw new Error(`CHANGELOG.md has no section of version ${version}; add it.`);
  return `# Parley ${version}\n\n${section.text}\n`;
}
