package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/spec"
)

// The exit codes.
const (
	exitDone       = 0
	exitRefused    = 1 // or not found, or nobody there to ask
	exitUsage      = 2
	exitIncomplete = 3 // not complete in time
)

// app is the world that a command runs in: real, or a test's.
type app struct {
	in       *bufio.Reader
	out, err io.Writer
	asking   bool // there is a person at in
	live     bool // out is a terminal
	colour   bool
	width    func() int // columns of out; 0 = do not wrap
	height   func() int // its lines; 0 = do not clip
	env      func(string) string
	now      func() time.Time
	newID    func() string
	self     string // how this binary was called

	// Flags of every command.
	server    string
	trust     api.Credentials // but for the token
	tokenFile string
	output    string

	begun bool // the command line was understood
}

func newApp() *app {
	live := term.IsTerminal(int(os.Stdout.Fd()))
	return &app{
		in: bufio.NewReader(os.Stdin), out: os.Stdout, err: os.Stderr,
		asking: term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stderr.Fd())),
		live:   live,
		colour: live && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
		width:  func() int { return terminalWidth(live) },
		height: func() int { return terminalHeight(live) },
		env:    os.Getenv, now: time.Now, newID: randomID,
		self: os.Args[0],
	}
}

func terminalWidth(live bool) int {
	if !live {
		return 0
	}
	if w, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil && w > 0 {
		return max(w, 60)
	}
	return 80
}

func terminalHeight(live bool) int {
	if !live {
		return 0
	}
	_, h, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		return 0
	}
	return h
}

// exit is an error that knows its exit code. One without words has been shown
// already.
type exit struct {
	code     int
	err      error
	remedy   string
	problems []spec.Problem // of the files that it is about, each with its own line
}

func (e *exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// usage is an error of whoever typed the command.
func usage(format string, args ...any) error {
	return &exit{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// run carries out one command line and gives the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	ran, err := root.ExecuteContextC(ctx)
	if !a.begun && asksJSON(args) {
		a.output = "json" // its flag may stand behind the one that is wrong
	}
	return a.conclude(ran, err)
}

// asksJSON looks for the flag in a line that could not be read.
func asksJSON(args []string) bool {
	for i, arg := range args {
		switch arg {
		case "-ojson", "-o=json", "--output=json":
			return true
		case "-o", "--output":
			if i+1 < len(args) && args[i+1] == "json" {
				return true
			}
		}
	}
	return false
}

// patient is how long a command is silent at most.
const patient = 3 * time.Second

// patience tells a person at a terminal that a command takes long, for what, and what
// Ctrl-C does, once it has taken so long. Done is called when it is over.
func (a *app) patience(text string) (done func()) {
	if !a.live || a.json() {
		return func() {}
	}
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-time.After(patient):
			fmt.Fprintln(a.err, text)
		case <-over:
		}
	}()
	return func() { close(over); <-ended }
}

// conclude tells what went wrong and what to do next.
func (a *app) conclude(ran *cobra.Command, err error) int {
	if err == nil {
		return exitDone
	}
	code, remedy, problems := exitRefused, "", []spec.Problem(nil)
	if !a.begun { // cobra's own errors come before any command of ours runs
		code = exitUsage
	}
	if e := (*exit)(nil); errors.As(err, &e) {
		code, remedy, problems = e.code, e.remedy, e.problems
		if e.err == nil {
			return code
		}
	}
	message := err.Error()
	if refusal := (*api.Error)(nil); errors.As(err, &refusal) {
		message, remedy = refusal.Reason, refusal.Remedy
	}
	if code == exitUsage && remedy == "" {
		remedy = fmt.Sprintf("`%s --help` shows how it is used", ran.CommandPath())
	}
	message = strings.TrimRight(message, "\n")
	if a.json() {
		if a.printJSON(fault{Code: code, Error: message, Remedy: remedy, Problems: listed(problems)}) == nil {
			return code
		}
	}
	for _, p := range problems {
		fmt.Fprintln(a.err, clean(p.String()))
	}
	for i, line := range strings.Split(message, "\n") {
		if i == 0 {
			line = "divert: " + line
		}
		fmt.Fprintln(a.err, clean(line)) // it may hold what others wrote
	}
	if remedy != "" {
		fmt.Fprintf(a.err, "        %s\n", clean(remedy))
	}
	return code
}

// fault is an error as JSON shows it, with the names that an outcome has.
type fault struct {
	Code     int       `json:"code"`
	Error    string    `json:"error"`
	Remedy   string    `json:"remedy,omitempty"`
	Problems []problem `json:"problems,omitempty"`
}

// root is the whole tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "divert",
		Short: "Direct clients to healthy clusters, by DNS",
		Long: `Divert directs clients to healthy Kubernetes clusters by DNS.

Directors run in several sites, agree on which clusters are down, and answer
authoritatively for the hostnames of services. This one binary is a director
(divert serve), the store of a small fleet (divert etcd), and the tool to see
and to change what the directors do.

A command asks the director on this machine, through its control socket, unless
--server or DIVERT_SERVER names another: unix:/path/control.sock, or
https://d1.example.net:8053 where who asks shows a certificate (--cert) or a token
(--token-file, DIVERT_TOKEN) and the director's certificate is signed by --ca.
http://127.0.0.1:8053 reads, and with a token changes.

Exit codes: 0 done; 1 refused or not found; 2 usage; 3 not complete in time.
With -o json standard output has only JSON: what was asked for, or what became
of it, or the code, the error and its remedy.`,
		Example: `  divert check spec.d
  divert serve -c director.yaml
  divert status --watch
  divert explain shop.example.org --client 81.2.69.142
  divert probe shop
  divert drain cluster/fra --for 2h --reason INC-1`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if !slices.Contains([]string{"text", "json"}, a.output) {
				return usage("--output %q is neither text nor json", a.output)
			}
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.server, "server", a.env("DIVERT_SERVER"), "director to ask: unix:`PATH` or https://HOST:PORT (default: DIVERT_SERVER, else the director on this machine)")
	flags.StringVar(&a.trust.CA, "ca", a.env("DIVERT_CA"), "`FILE` of who signs the directors' certificates (default: DIVERT_CA, else the system's)")
	flags.StringVar(&a.trust.Cert, "cert", a.env("DIVERT_CERT"), "`FILE` of the certificate to show to https://… (default: DIVERT_CERT)")
	flags.StringVar(&a.trust.Key, "key", a.env("DIVERT_KEY"), "`FILE` of its key (default: DIVERT_KEY, else that of --cert)")
	flags.StringVar(&a.tokenFile, "token-file", "", "`FILE` of the token to show (default: the token itself in DIVERT_TOKEN)")
	flags.StringVarP(&a.output, "output", "o", "text", "`FORMAT` of what is printed: text or json")
	// The environment may hold what help should not print.
	for _, name := range []string{"server", "ca", "cert", "key"} {
		flags.Lookup(name).DefValue = ""
	}
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Run:"},
		&cobra.Group{ID: groupSpec, Title: "Say what the fleet is:"},
		&cobra.Group{ID: groupSee, Title: "See:"},
		&cobra.Group{ID: groupChange, Title: "Change:"},
	)
	root.AddCommand(a.commands()...)
	strictHelp(root)
	a.noteBegin(root)
	must(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)))
	return root
}

// strictHelp has `divert help` of what there is not be an error of usage, which
// cobra's own is not.
func strictHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		if c.Name() != "help" {
			continue
		}
		show := c.Run
		c.Run, c.RunE = nil, func(c *cobra.Command, args []string) error {
			if _, _, err := root.Find(args); err != nil {
				return usage("%w", err)
			}
			show(c, args)
			return nil
		}
	}
}

// noteBegin lets each command say that its line was understood: cobra looks for
// required flags after every hook that comes before RunE.
func (a *app) noteBegin(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			a.begun = true
			return run(c, args)
		}
	}
	for _, child := range c.Commands() {
		a.noteBegin(child)
	}
}

// The groups of the help text.
const (
	groupRun    = "run"
	groupSpec   = "spec"
	groupSee    = "see"
	groupChange = "change"
)

func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.serveCommand(), a.etcdCommand(), a.fleetCommand(), a.demoCommand(),
		a.checkCommand(), a.diffCommand(), a.applyCommand(), a.revertCommand(), a.rolloutCommand(),
		a.statusCommand(), a.explainCommand(), a.probeCommand(), a.auditCommand(), a.backupCommand(), a.loginCommand(), a.whoamiCommand(), a.canCommand(), a.openAPICommand(), a.versionCommand(), a.completionCommand(),
		a.drainCommand(), a.undrainCommand(), a.freezeCommand(), a.thawCommand(), a.readmitCommand(), a.interlockCommand(), a.policyCommand(),
		a.approvalsCommand(), a.approveCommand(), a.denyCommand(),
		a.directorCommand(), a.keysCommand(), a.secretsCommand(), a.tokenCommand(), a.storeCommand(), a.restoreCommand(),
	}
}

// must is for what only a programmer can get wrong.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// groupMark tells such a command from one that runs by itself, too.
const groupMark = "divert/group"

// group is a command that only has others below it.
func group(c *cobra.Command, children ...*cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.Annotations = map[string]string{groupMark: "true"}
	c.RunE = func(c *cobra.Command, args []string) error {
		names := make([]string, 0, len(children))
		for _, child := range children {
			names = append(names, child.Name())
		}
		if len(args) > 0 {
			return usage("unknown command %q for %q: it has %s", args[0], c.CommandPath(), strings.Join(names, ", "))
		}
		return usage("which one? %s has %s", c.CommandPath(), strings.Join(names, ", "))
	}
	c.AddCommand(children...)
	return c
}

// client finds the director to ask.
func (a *app) client() (*api.Client, error) {
	c, err := a.dial()
	if err != nil {
		return nil, err
	}
	if len(c.Others) > 0 {
		fmt.Fprintf(a.err, "divert: several directors answer on this machine; asking %s (others: unix:%s; --server picks one)\n",
			c.Server, strings.Join(c.Others, ", unix:"))
	}
	return c, nil
}

// changer finds the director that is to change something: there must be no
// doubt which fleet that is.
func (a *app) changer() (*api.Client, error) {
	c, err := a.dial()
	if err != nil {
		return nil, err
	}
	if len(c.Others) > 0 {
		return nil, &exit{
			code: exitRefused, err: errors.New("several directors answer on this machine, and which one is meant is not said"),
			remedy: "say it: --server " + c.Server + ", or --server unix:" + strings.Join(c.Others, ", or --server unix:"),
		}
	}
	return c, nil
}

func (a *app) json() bool { return a.output == "json" }

// printJSON writes one value, indented.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// ask reads one line from the person at the terminal. Ctrl-C ends the wait; the
// read itself cannot be interrupted and ends with the process.
func (a *app) ask(ctx context.Context, prompt string) (string, error) {
	fmt.Fprint(a.err, prompt)
	type line struct {
		text string
		err  error
	}
	read := make(chan line, 1)
	go func() {
		text, err := a.in.ReadString('\n')
		read <- line{strings.TrimSpace(text), err}
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.err)
		return "", errors.New("interrupted; nothing was done")
	case l := <-read:
		if l.err != nil && !errors.Is(l.err, io.EOF) { // the end of input is an empty answer
			return "", fmt.Errorf("reading the answer: %w", l.err)
		}
		return l.text, nil
	}
}
