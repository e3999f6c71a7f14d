//! Queries that rows have in common which have a name within what they belong to: a vendor within a pipeline,
//! a provider within a source. The tables differ in their types, so these are macros.

/// `one(connection, org, parent, name)` finds the row of that name, `take` removes it and gives what it was.
macro_rules! named_rows {
    ($table:ident by $parent:ident and $name:ident -> $Row:ty) => {
        async fn one(
            connection: &mut AsyncPgConnection,
            org: Uuid,
            parent: Uuid,
            name: &str,
        ) -> Result<Option<$Row>> {
            let own = $table::table
                .filter($table::org_id.eq(org))
                .filter($table::$parent.eq(parent))
                .filter($table::$name.eq(name));
            Ok(own.select(<$Row>::as_select()).first(connection).await.optional()?)
        }

        async fn take(
            connection: &mut AsyncPgConnection,
            org: Uuid,
            parent: Uuid,
            name: &str,
        ) -> Result<Option<$Row>> {
            let own = $table::table
                .filter($table::org_id.eq(org))
                .filter($table::$parent.eq(parent))
                .filter($table::$name.eq(name));
            let removed = diesel::delete(own).returning(<$Row>::as_returning());
            Ok(removed.get_result(connection).await.optional()?)
        }
    };
}

/// `listed(connection, org, parent, page)` gives the page of the rows, by name.
macro_rules! listed_rows {
    ($table:ident by $parent:ident and $name:ident -> $Row:ty) => {
        async fn listed(
            connection: &mut AsyncPgConnection,
            org: Uuid,
            parent: Uuid,
            page: &Page,
        ) -> Result<Paged<$Row>> {
            let mut query = $table::table
                .filter($table::org_id.eq(org))
                .filter($table::$parent.eq(parent))
                .order($table::$name)
                .limit(page.rows())
                .select(<$Row>::as_select())
                .into_boxed();
            if let Some(after) = page.after::<String>()? {
                query = query.filter($table::$name.gt(after));
            }
            Ok(page.of(query.load(connection).await?, |row: &$Row| row.$name.clone()))
        }
    };
}

pub(super) use {listed_rows, named_rows};
