import js from "@eslint/js";
import globals from "globals";

const page = ["src/convscope/lab/page/**/*.js"];
const tests = ["tests/lab/*.mjs"];

export default [
  { ...js.configs.recommended, files: [...page, ...tests] },
  {
    files: page,
    languageOptions: { ecmaVersion: 2023, globals: { ...globals.browser, ...globals.worker } },
    rules: {
      eqeqeq: ["error", "always", { null: "ignore" }],
      "max-lines": ["error", 400],
      "max-depth": ["error", 6],
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-shadow": "error",
      "no-var": "error",
      "prefer-const": ["error", { destructuring: "all" }],
    },
  },
  { files: tests, languageOptions: { ecmaVersion: 2023, globals: globals.node } },
];
