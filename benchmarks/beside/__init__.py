"""How sidecall does beside what people use today. Each module measures one thing; `results` holds what came of it."""
