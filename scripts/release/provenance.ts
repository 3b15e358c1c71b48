export type ProvenanceInput = {
  version: string;
  commit: string;
  repository: string;
  /** The SHA-256 of each release file. */
  digests: Map<string, string>;
  bunVersion: string;
  /** The SHA-256 of bun.lock and of the runtimes' lock file. */
  locks: Map<string, string>;
  environment: Record<string, string | undefined>;
};

/**
 * Creates an in-toto statement with SLSA provenance, which records the sources and the build machine. It isn't signed;
 * the release workflow adds a signed statement, which `gh attestation verify` checks.
 */
export function createProvenance(input: ProvenanceInput): string {
  const { version, commit, repository, digests, bunVersion, locks, environment } = input;
  const isWorkflow = environment.GITHUB_ACTIONS === "true";
  const server = `${environment.GITHUB_SERVER_URL}/${environment.GITHUB_REPOSITORY}`;
  const statement = {
    _type: "https://in-toto.io/Statement/v1",
    subject: [...digests].map(([name, sha256]) => ({ name, digest: { sha256 } })),
    predicateType: "https://slsa.dev/provenance/v1",
    predicate: {
      buildDefinition: {
        buildType: "urn:parley:make-release:v1",
        externalParameters: { command: "make release", version, repository },
        resolvedDependencies: [
          { uri: repository.startsWith("https:") ? `git+${repository}` : repository, digest: { gitCommit: commit } },
          { uri: `pkg:github/oven-sh/bun@bun-v${bunVersion}` },
          ...[...locks].map(([name, sha256]) => ({ name, digest: { sha256 } })),
        ],
      },
      runDetails: {
        builder: {
          id: isWorkflow
            ? `${environment.GITHUB_SERVER_URL}/${environment.GITHUB_WORKFLOW_REF}`
            : "urn:parley:local-build",
        },
        ...(isWorkflow
          ? {
              metadata: {
                invocationId: `${server}/actions/runs/${environment.GITHUB_RUN_ID}/attempts/${environment.GITHUB_RUN_ATTEMPT}`,
              },
            }
          : {}),
      },
    },
  };
  return `${JSON.stringify(statement, null, 2)}\n`;
}
