/**
 * The files and folders that an executable is built from, besides its packages. Tests are excluded, because a test run
 * would also find them in a copy.
 */
export const BUILD_SOURCES = [
  "CHANGELOG.md",
  "README.md",
  "THIRD-PARTY-NOTICES.txt",
  "bunfig.toml",
  "docs",
  "package.json",
  "scripts",
  "sql",
  "src",
  "tsconfig.json",
] as const;
