//! Methods of MCP, in all revisions.

macro_rules! methods {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $legacy:literal, $modern:literal;)+) => {
        /// A method of MCP.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Method {
            $($(#[doc = $doc])+ $variant,)+
            /// Any other.
            Unknown,
        }

        impl Method {
            /// The method of this exact name.
            pub fn of(name: &str) -> Self {
                match name { $($name => Self::$variant,)+ _ => Self::Unknown }
            }

            /// Its name; empty for [`Method::Unknown`].
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ Self::Unknown => "" }
            }

            /// Whether a legacy revision (2024-11-05 to 2025-11-25) has it.
            pub const fn is_legacy(self) -> bool {
                match self { $(Self::$variant => $legacy,)+ Self::Unknown => true }
            }

            /// Whether revision 2026-07-28 or one of its extensions has it.
            pub const fn is_modern(self) -> bool {
                match self { $(Self::$variant => $modern,)+ Self::Unknown => true }
            }
        }
    };
}

methods! {
    /// Begins a legacy session.
    Initialize = "initialize", true, false;
    /// Asks whether the other side lives.
    Ping = "ping", true, false;
    /// Asks for versions and capabilities.
    Discover = "server/discover", false, true;
    /// Lists tools.
    ToolsList = "tools/list", true, true;
    /// Calls a tool.
    ToolsCall = "tools/call", true, true;
    /// Lists prompts.
    PromptsList = "prompts/list", true, true;
    /// Gets a prompt.
    PromptsGet = "prompts/get", true, true;
    /// Lists resources.
    ResourcesList = "resources/list", true, true;
    /// Lists resource templates.
    ResourceTemplatesList = "resources/templates/list", true, true;
    /// Reads a resource.
    ResourcesRead = "resources/read", true, true;
    /// Subscribes to a resource.
    ResourcesSubscribe = "resources/subscribe", true, false;
    /// Ends such a subscription.
    ResourcesUnsubscribe = "resources/unsubscribe", true, false;
    /// Listens for changes.
    SubscriptionsListen = "subscriptions/listen", false, true;
    /// Completes an argument.
    CompletionComplete = "completion/complete", true, true;
    /// Sets the level of log notifications.
    LoggingSetLevel = "logging/setLevel", true, false;
    /// Asks for a task's state.
    TasksGet = "tasks/get", true, true;
    /// Waits for a task's result.
    TasksResult = "tasks/result", true, false;
    /// Lists tasks.
    TasksList = "tasks/list", true, false;
    /// Cancels a task.
    TasksCancel = "tasks/cancel", true, true;
    /// Gives a task input.
    TasksUpdate = "tasks/update", false, true;
    /// The session has begun.
    NotificationInitialized = "notifications/initialized", true, false;
    /// A request is no longer wanted.
    NotificationCancelled = "notifications/cancelled", true, true;
    /// Progress of a request.
    NotificationProgress = "notifications/progress", true, true;
    /// The client's roots changed.
    NotificationRootsListChanged = "notifications/roots/list_changed", true, false;
    /// A task's state changed.
    NotificationTasksStatus = "notifications/tasks/status", true, false;
}

impl Method {
    /// Whether it is sent without an id.
    pub fn is_notification(self) -> bool {
        self.as_str().starts_with("notifications/")
    }
}
