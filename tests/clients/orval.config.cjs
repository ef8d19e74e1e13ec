module.exports = {
  client: {
    input: "openapi.json",
    output: {
      target: "generated/orval/client.ts",
      client: "fetch",
      baseUrl: process.env.SERVICE,
    },
  },
  zod: {
    input: "openapi.json",
    output: { target: "generated/orval/zod.ts", client: "zod" },
  },
};
