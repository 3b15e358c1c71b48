/** Maps a message's `type` to its name in documents: `message.created` to `MessageCreated`. */
export const mapTypeToName = (type: string): string =>
  type
    .split(".")
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join("");
