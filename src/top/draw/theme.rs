//! Styles by what they mean. Colours are the sixteen of the terminal, so that they suit its background.

use ratatui::style::{Color, Modifier, Style};

use crate::top::state::Standing;

/// Which styles there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    pub(super) is_colored: bool,
}

impl Theme {
    fn color(self, color: Color) -> Style {
        if self.is_colored { Style::new().fg(color) } else { Style::new() }
    }

    pub(super) fn plain(self) -> Style {
        Style::new()
    }

    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn good(self) -> Style {
        self.color(Color::Green)
    }

    pub(super) fn doubtful(self) -> Style {
        self.color(Color::Yellow)
    }

    /// Also without colours.
    pub(super) fn bad(self) -> Style {
        self.color(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn graph(self) -> Style {
        self.color(Color::Cyan)
    }

    /// What a key does.
    pub(super) fn key(self) -> Style {
        match self.is_colored {
            true => Style::new().fg(Color::Black).bg(Color::Cyan),
            false => Style::new().add_modifier(Modifier::REVERSED),
        }
    }

    /// Where one is.
    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// The line above a list.
    pub(super) fn header(self) -> Style {
        self.faint().add_modifier(Modifier::UNDERLINED)
    }

    pub(super) fn standing(self, standing: Standing) -> Style {
        match standing {
            Standing::Offline => self.bad(),
            Standing::Suspect => self.doubtful(),
            Standing::Maint | Standing::Drain => self.color(Color::Blue),
            Standing::Online => self.good(),
        }
    }
}
