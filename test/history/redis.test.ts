import { describeDrills } from "./drills.ts";

describeDrills("Redis");
