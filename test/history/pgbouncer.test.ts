import { describeDrills } from "./drills.ts";

describeDrills("PgBouncer");
