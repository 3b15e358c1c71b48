/** A component with a graceful shutdown: it accepts no new work and finishes the work in progress. */
export type ShutdownComponent = {
  name: string;
  /** The names of the components that must stop before this one. */
  after?: readonly string[];
  /** Stops the component. @param deadlineMs the time by which it must have stopped, in milliseconds since 1970. */
  stop(deadlineMs: number): Promise<unknown>;
};

/** The components that have to be stopped. */
export interface ShutdownComponents {
  add(component: ShutdownComponent): void;
  /** Lists all components in the order in which they must stop. @throws Error for an unknown name or a cycle. */
  list(): ShutdownComponent[];
}

export function createShutdownComponents(): ShutdownComponents {
  const components = new Map<string, ShutdownComponent>();

  return {
    add(component) {
      if (components.has(component.name)) throw new Error(`A component named ${component.name} already exists.`);
      components.set(component.name, component);
    },

    list() {
      const listed = new Set<ShutdownComponent>();
      const visit = (name: string, path: readonly string[]): void => {
        const component = components.get(name);
        if (!component) throw new Error(`${path.at(-1)} stops after ${name}, which is not a component.`);
        if (path.includes(name))
          throw new Error(`Components wait for each other in a cycle: ${[...path, name].join(", ")}.`);
        for (const dependency of component.after ?? []) visit(dependency, [...path, name]);
        listed.add(component);
      };
      for (const name of components.keys()) visit(name, []);
      return [...listed];
    },
  };
}
