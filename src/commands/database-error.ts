export { explainDatabaseError } from "../db/explain.ts";
