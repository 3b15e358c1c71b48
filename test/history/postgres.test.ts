import { describeDrills } from "./drills.ts";

describeDrills("Postgres");
