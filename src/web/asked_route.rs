//! What an operator names, or what to tell who named something else. Only for the listener for operations: it lists the
//! routes, which not everyone may know.

use super::{RouteSite, Site};
use wheelport_index::ProjectName;

impl Site {
    /// The route with this name.
    pub(super) fn asked_route(&self, name: &str) -> Result<&RouteSite, String> {
        let found = self.routes.iter().find(|found| *found.route.name == *name);
        found.ok_or_else(|| unknown(name, self.routes.iter().map(|found| &*found.route.name)))
    }

    /// The route and the project with these names.
    pub(super) fn asked_project(&self, route: &str, project: &str) -> Result<(&RouteSite, ProjectName), String> {
        let route = self.asked_route(route)?;
        let name = ProjectName::parse(project).map_err(|error| format!("that is no name of a project: {error}"))?;
        Ok((route, name))
    }
}

fn unknown<'a>(name: &str, routes: impl Iterator<Item = &'a str>) -> String {
    let routes: Vec<&str> = routes.collect();
    let shown: String = name.chars().take(100).map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect();
    format!("no such route: {shown}; there is {}", routes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_is_told_with_the_right_ones() {
        let text = unknown("pyton\n", ["python", "tools"].into_iter());
        assert_eq!(text, "no such route: pyton\u{fffd}; there is python, tools");
    }
}
