//! Tables, in Markdown, line by line as they are measured.

/// What a figure has to be.
#[derive(Clone, Copy)]
pub enum Goal {
    AtLeast { must: f64, aim: f64 },
    AtMost { must: f64, aim: f64 },
}

impl Goal {
    fn met(self, figure: f64) -> &'static str {
        let (must, aim) = match self {
            Self::AtLeast { must, aim } => (figure >= must, figure >= aim),
            Self::AtMost { must, aim } => (figure <= must, figure <= aim),
        };
        if aim {
            "aim"
        } else if must {
            "must"
        } else {
            "**no**"
        }
    }
}

pub fn goals_head() {
    println!("| | measured | must | aim | met |");
    println!("|---|--:|--:|--:|---|");
}

pub fn goal(what: &str, figure: f64, unit: &str, goal: Goal) {
    let (words, must, aim) = match goal {
        Goal::AtLeast { must, aim } => ("at least", must, aim),
        Goal::AtMost { must, aim } => ("at most", must, aim),
    };
    let met = goal.met(figure);
    println!("| {what} | {figure:.2}{unit} | {words} {must}{unit} | {aim}{unit} | {met} |");
}

pub fn head(title: &str, columns: &[&str]) {
    println!("\n{title}\n\n| {} |", columns.join(" | "));
    println!("|---|{}", "--:|".repeat(columns.len() - 1));
}

pub fn line(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

/// A number of requests, with thousands apart.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
