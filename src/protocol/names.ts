/** Maps a message's `type` to its name in the API descriptions: `message.created` becomes `MessageCreated`. */
export const mapTypeToName = (type: string): string =>
  type
    .split(".")
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join("");
