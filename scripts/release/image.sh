#!/usr/bin/env bash
# Publishes a release's container image in GitHub's registry. TAG is the release's tag. REGISTRY_TOKEN needs write
# access to packages.
#   image.sh push amd64          builds the image for this machine's platform, and pushes it as <version>-amd64
#   image.sh join amd64 arm64    combines the pushed images under one name, and writes name and digest to $GITHUB_OUTPUT
set -euo pipefail
cd "$(dirname "$0")/../.."

for name in TAG REGISTRY_TOKEN GITHUB_REPOSITORY GITHUB_SHA; do
  if [ -z "${!name:-}" ]; then
    echo "$name is not set; this script runs in .github/workflows/release.yml." >&2
    exit 2
  fi
done
version=${TAG#v}
# Image names are lowercase.
image=ghcr.io/${GITHUB_REPOSITORY,,}

docker login ghcr.io --username "${GITHUB_ACTOR:-parley}" --password-stdin <<<"$REGISTRY_TOKEN"

case ${1:-} in
  push)
    docker build --build-arg "PARLEY_COMMIT=${GITHUB_SHA:0:12}" --build-arg "PARLEY_VERSION=$version" \
      --label "org.opencontainers.image.source=${GITHUB_SERVER_URL:-https://github.com}/$GITHUB_REPOSITORY" \
      --label "org.opencontainers.image.revision=$GITHUB_SHA" \
      --label "org.opencontainers.image.version=$version" \
      --tag "$image:$version-$2" .
    docker run --rm "$image:$version-$2" --version
    docker push "$image:$version-$2"
    ;;
  join)
    shift
    tags=(--tag "$image:$version")
    # A prerelease never becomes `latest`.
    if [[ $version != *-* ]]; then tags+=(--tag "$image:latest"); fi
    docker buildx imagetools create "${tags[@]}" "${@/#/$image:$version-}"
    digest=$(docker buildx imagetools inspect "$image:$version" --format '{{.Manifest.Digest}}')
    printf 'name=%s\ndigest=%s\n' "$image" "$digest" >>"$GITHUB_OUTPUT"
    ;;
  *)
    echo "Usage: image.sh push PLATFORM | image.sh join PLATFORM…" >&2
    exit 2
    ;;
esac
