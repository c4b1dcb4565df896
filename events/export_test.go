package events

// SQLiteSchema is the schema version that the statements are written for.
const SQLiteSchema = sqliteSchema
