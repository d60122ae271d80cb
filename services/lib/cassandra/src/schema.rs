//! Applies the schema: the statements of `cassandra/*.cql`, all of which can be run again.

use std::time::Duration;

use ports::PortError;
use scylla::client::session::Session;

use crate::config::CassandraConfig;
use crate::error::{Kind, agreement, execution, timed_out};
use crate::session::connect;

/// Runs the statements of CQL texts in order, each after all nodes agree on the one before.
///
/// # Errors
/// [`PortError::Refused`] if a statement is wrong; otherwise the same call may be made again, given
/// that the statements say `IF NOT EXISTS`.
pub async fn apply_schema(config: &CassandraConfig, texts: &[impl AsRef<str>]) -> Result<(), PortError> {
    let session = connect(config).await?;
    for text in texts {
        for statement in statements(text.as_ref()) {
            run(&session, &statement, config.schema_timeout()).await?;
        }
    }
    Ok(())
}

async fn run(session: &Session, statement: &str, limit: Duration) -> Result<(), PortError> {
    let applied = async {
        session.query_unpaged(statement, ()).await.map_err(|error| execution(Kind::Write, &error))?;
        session.await_schema_agreement().await.map_err(|error| agreement(&error))
    };
    match tokio::time::timeout(limit, applied).await {
        Ok(result) => result.map(|_| ()),
        Err(_) => Err(timed_out(Kind::Write, statement, limit)),
    }
}

/// The statements of a CQL text, without comments. Semicolons in strings, quoted names and comments
/// separate nothing.
fn statements(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut current = String::new();
    let mut rest = text;
    while let Some(token) = next_token(rest) {
        rest = &rest[token.text.len()..];
        match token.kind {
            TokenKind::Comment => current.push(' '),
            TokenKind::Text => current.push_str(token.text),
            TokenKind::End => found.push(std::mem::take(&mut current)),
        }
    }
    found.push(current);
    found.into_iter().map(|statement| statement.trim().to_owned()).filter(|statement| !statement.is_empty()).collect()
}

#[derive(Clone, Copy)]
enum TokenKind {
    Comment,
    Text,
    End,
}

struct Token<'a> {
    kind: TokenKind,
    text: &'a str,
}

/// The quoted piece, comment, semicolon or single character at the start of the text.
fn next_token(text: &str) -> Option<Token<'_>> {
    let first = text.chars().next()?;
    let rest = &text[first.len_utf8()..];
    let quoted = |end: &str, ends: usize| text[2..].find(end).map_or(text.len(), |found| found + 2 + ends);
    let (kind, length) = match first {
        '-' | '/' if rest.starts_with(first) => (TokenKind::Comment, text.find('\n').unwrap_or(text.len())),
        '/' if rest.starts_with('*') => (TokenKind::Comment, quoted("*/", 2)),
        '$' if rest.starts_with('$') => (TokenKind::Text, quoted("$$", 2)),
        // A doubled quote inside ends one piece and begins the next: the sum is the same.
        '\'' | '"' => (TokenKind::Text, rest.find(first).map_or(text.len(), |found| found + 2)),
        ';' => (TokenKind::End, 1),
        _ => (TokenKind::Text, first.len_utf8()),
    };
    Some(Token { kind, text: &text[..length] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_semicolons_that_separate() {
        let text = "-- first; comment\nCREATE TABLE a (x int); /* b; */\n// c; d\nINSERT INTO a VALUES ('it''s; €', \"q;\");\n\n;  ";
        assert_eq!(statements(text), ["CREATE TABLE a (x int)", "INSERT INTO a VALUES ('it''s; €', \"q;\")"]);
    }

    #[test]
    fn takes_a_last_statement_without_semicolon() {
        assert_eq!(statements("USE a; SELECT $$ ; $$"), ["USE a", "SELECT $$ ; $$"]);
        assert_eq!(statements("-- nothing"), [""; 0]);
        assert_eq!(statements("SELECT 'open; "), ["SELECT 'open;"]);
    }
}
