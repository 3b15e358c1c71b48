import type { Variables } from "./template.ts";

export type VariableSources = {
  user: { id: string; display_name: string } | null;
  /**
   * The user's preferences, if the prompt may read them. `timezone` (such as `Europe/Berlin`) also applies to the date and time.
   */
  preferences: Record<string, unknown>;
  conversation: { id: string; title: string; kind: string } | null;
  model: string;
  now: Date;
};

/** Creates the values for rendering a template. The date and time are in the user's time zone, or in UTC if it is unknown. */
export function createVariables({ user, preferences, conversation, model, now }: VariableSources): Variables {
  return {
    "user.id": user?.id ?? "",
    "user.display_name": user?.display_name ?? "",
    "conversation.id": conversation?.id ?? "",
    "conversation.title": conversation?.title ?? "",
    "conversation.kind": conversation?.kind ?? "",
    model,
    ...formatDateAndTime(now, preferences.timezone),
    preferences,
  };
}

function formatDateAndTime(now: Date, timezone: unknown): { date: string; time: string; weekday: string } {
  const parts = createFormatter(timezone).formatToParts(now);
  const findPart = (type: Intl.DateTimeFormatPartTypes) => parts.find((part) => part.type === type)?.value ?? "";
  return {
    date: `${findPart("year")}-${findPart("month")}-${findPart("day")}`,
    time: `${findPart("hour")}:${findPart("minute")}`,
    weekday: findPart("weekday"),
  };
}

/** Creates a single formatter for date, time and weekday, because creating one is slower than the rest of the rendering. */
function createFormatter(timezone: unknown): Intl.DateTimeFormat {
  const createForZone = (timeZone: string) =>
    new Intl.DateTimeFormat("en-GB", {
      timeZone,
      weekday: "long",
      year: "numeric",
      month: "2-digit",
      day: "2-digit",
      hour: "2-digit",
      minute: "2-digit",
      hourCycle: "h23",
    });
  if (typeof timezone !== "string") return createForZone("UTC");
  try {
    return createForZone(timezone);
  } catch {
    return createForZone("UTC");
  }
}
