// Imported before everything else. At its first import the framework decides whether to explain invalid input at length,
// with the input in it; nobody would see that here, and it makes a large invalid body four times as costly.
Object.assign(process.env, { NODE_ENV: "production" });
