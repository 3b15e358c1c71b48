// Must be the first import. When first imported, Elysia decides whether validation errors explain and include the whole input.
// That is never shown here, and makes a large invalid body four times as expensive.
Object.assign(process.env, { NODE_ENV: "production" });
