/** The name of a message in documents by its `type`: `message.created` gives `MessageCreated`. */
export const mapTypeToName = (type: string): string =>
  type
    .split(".")
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join("");
