"""How an organisation begins: with a project, a budget, and somebody who may sign in."""
