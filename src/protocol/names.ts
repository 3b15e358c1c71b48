/** The name under which documents list what has this `type`: `message.created` gives `MessageCreated`. */
export const mapTypeToName = (type: string): string =>
  type
    .split(".")
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join("");
