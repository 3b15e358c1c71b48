import type { Variables } from "./template.ts";

export type VariableSources = {
  user: { id: string; display_name: string } | null;
  /** Of the user, where the prompt may read them; `timezone` in it (like `Europe/Berlin`) also sets the clock. */
  preferences: Record<string, unknown>;
  conversation: { id: string; title: string; kind: string } | null;
  model: string;
  now: Date;
};

/** The values of one rendering. Date and time are in the user's time zone, UTC when they name none. */
export function createVariables({ user, preferences, conversation, model, now }: VariableSources): Variables {
  return {
    "user.id": user?.id ?? "",
    "user.display_name": user?.display_name ?? "",
    "conversation.id": conversation?.id ?? "",
    "conversation.title": conversation?.title ?? "",
    "conversation.kind": conversation?.kind ?? "",
    model,
    ...readClock(now, preferences.timezone),
    preferences,
  };
}

function readClock(now: Date, timezone: unknown): { date: string; time: string; weekday: string } {
  const timeZone = typeof timezone === "string" && isTimeZone(timezone) ? timezone : "UTC";
  const format = (options: Intl.DateTimeFormatOptions) =>
    new Intl.DateTimeFormat("en-GB", { ...options, timeZone }).format(now);
  const [day, month, year] = format({ day: "2-digit", month: "2-digit", year: "numeric" }).split("/");
  return {
    date: `${year}-${month}-${day}`,
    time: format({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" }),
    weekday: format({ weekday: "long" }),
  };
}

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}
