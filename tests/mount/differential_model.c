/* What the differential test knows about the tree it works on, and how it draws names and nodes. */
#include "differential.h"

#include <stdio.h>
#include <string.h>

uint64_t draw(struct state *state)
{
	uint64_t z = (state->random += 0x9e3779b97f4a7c15U);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return z ^ (z >> 31);
}

uint64_t draw_below(struct state *state, uint64_t bound)
{
	return bound ? draw(state) % bound : 0;
}

bool draw_chance(struct state *state, unsigned percent)
{
	return draw_below(state, 100) < percent;
}

void model_init(struct model *model)
{
	for (int i = 0; i < MAX_NODES; i++)
		model->nodes[i].position = -1;
	model->nodes[0] = (struct node){ .parent = -1, .kind = KIND_DIR };
	model->live[0] = 0;
	model->count = 1;
}

int model_find(const struct model *model, int parent, const char *name)
{
	for (int i = 1; i < model->count; i++) {
		const struct node *node = &model->nodes[model->live[i]];

		if (node->parent == parent && strcmp(node->name, name) == 0)
			return model->live[i];
	}
	return -1;
}

int model_add(struct model *model, int parent, enum kind kind, const char *name)
{
	for (int i = 1; i < MAX_NODES; i++) {
		struct node *node = &model->nodes[i];

		if (node->position >= 0)
			continue;
		*node = (struct node){ .parent = parent,
				       .depth = model->nodes[parent].depth + 1,
				       .kind = kind,
				       .position = model->count };
		snprintf(node->name, sizeof(node->name), "%s", name);
		model->live[model->count++] = i;
		model->nodes[parent].children++;
		return i;
	}
	return -1;
}

void model_remove(struct model *model, int node)
{
	int position = model->nodes[node].position;
	int last;

	if (node <= 0 || position <= 0)
		return;
	last = model->live[--model->count];
	model->live[position] = last;
	model->nodes[last].position = position;
	model->nodes[node].position = -1;
	model->nodes[model->nodes[node].parent].children--;
	/* A directory that went with its children (the model may lag behind symlinked creates) takes them along. */
	for (int i = model->count - 1; i > 0; i--) {
		if (i < model->count && model->nodes[model->live[i]].parent == node) {
			model_remove(model, model->live[i]);
			i = model->count;
		}
	}
}

static void deepen(struct model *model, int node)
{
	for (int i = 1; i < model->count; i++) {
		int child = model->live[i];

		if (model->nodes[child].parent == node) {
			model->nodes[child].depth = model->nodes[node].depth + 1;
			deepen(model, child);
		}
	}
}

static bool is_below(const struct model *model, int node, int ancestor)
{
	while (node > 0 && node != ancestor)
		node = model->nodes[node].parent;
	return node == ancestor;
}

void model_move(struct model *model, int node, int parent, const char *name)
{
	struct node *moved = &model->nodes[node];

	/* The model lags behind what went through symlinks. It may be wrong until it is rebuilt, but must not be a loop. */
	if (moved->position < 0 || model->nodes[parent].position < 0 || is_below(model, parent, node)) {
		model_remove(model, node);
		return;
	}
	model->nodes[moved->parent].children--;
	model->nodes[parent].children++;
	moved->parent = parent;
	moved->depth = model->nodes[parent].depth + 1;
	memmove(moved->name, name, strlen(name) + 1);
	if (moved->kind == KIND_DIR)
		deepen(model, node);
}

void model_exchange(struct model *model, int node, int other)
{
	struct node first = model->nodes[node];
	struct node second = model->nodes[other];

	model_move(model, node, second.parent, second.name);
	model_move(model, other, first.parent, first.name);
}

bool model_path(const struct model *model, int node, const char *name, char path[static PATH_MAX])
{
	const char *parts[MAX_NODES];
	size_t length = 0;
	int count = 0;

	if (name)
		parts[count++] = name;
	for (; node > 0; node = model->nodes[node].parent)
		parts[count++] = model->nodes[node].name;
	path[0] = '\0';
	while (count-- > 0) {
		size_t part = strlen(parts[count]);

		if (length + part + 2 > PATH_MAX)
			return false;
		if (length)
			path[length++] = '/';
		memcpy(path + length, parts[count], part + 1);
		length += part;
	}
	if (!length)
		memcpy(path, ".", 2);
	return true;
}

int pick_node(struct state *state, unsigned kinds)
{
	const struct model *model = &state->model;

	for (int i = 0; i < 24 && model->count > 1; i++) {
		/* A part of the tree is worked on more often, so that things happen to the same object. */
		int among = model->count > 60 && draw_chance(state, 30) ? 60 : model->count;
		int node = model->live[1 + draw_below(state, (uint64_t)among - 1)];

		if (kinds & 1U << model->nodes[node].kind)
			return node;
	}
	return -1;
}

int pick_dir(struct state *state)
{
	int node = draw_chance(state, 10) ? 0 : pick_node(state, 1U << KIND_DIR);

	return node < 0 || state->model.nodes[node].depth >= MAX_DEPTH ? 0 : node;
}

int pick_leaf(struct state *state, unsigned kinds)
{
	for (int i = 0; i < 24; i++) {
		int node = pick_node(state, kinds);

		if (node > 0 && !state->model.nodes[node].children)
			return node;
	}
	return -1;
}

/* Mostly short names; all lengths up to 255 round the 16-byte steps; any byte but '/' and NUL. */
void draw_name(struct state *state, char name[static NAME_MAX + 1])
{
	size_t length = 1 + draw_below(state, 12);
	bool odd = draw_chance(state, 10);

	if (draw_chance(state, 15))
		length = 1 + draw_below(state, NAME_MAX);
	else if (draw_chance(state, 10))
		length = NAME_MAX - draw_below(state, 20);
	for (size_t i = 0; i < length; i++) {
		name[i] = odd ? (char)(1 + draw_below(state, 255)) : (char)('a' + draw_below(state, 26));
		if (name[i] == '/')
			name[i] = '_';
	}
	name[length] = '\0';
	if (name[0] == '.' && length <= 2)
		name[0] = ',';
}

bool choose_node(struct state *state, struct args *args, unsigned kinds)
{
	args->node = pick_node(state, kinds);
	if (args->node < 0)
		return false;
	args->kind = state->model.nodes[args->node].kind;
	args->parent = state->model.nodes[args->node].parent;
	return model_path(&state->model, args->node, NULL, args->path);
}

bool choose_new(struct state *state, struct args *args)
{
	args->parent = pick_dir(state);
	args->node = -1;
	draw_name(state, args->name);
	/* Some creations meet a name that is there already. */
	if (draw_chance(state, 5)) {
		int node = pick_node(state, ~0U);

		if (node > 0) {
			args->node = node;
			args->parent = state->model.nodes[node].parent;
			snprintf(args->name, sizeof(args->name), "%s", state->model.nodes[node].name);
		}
	}
	return state->model.count < MAX_NODES - 1 && model_path(&state->model, args->parent, args->name, args->path);
}

bool choose_other_new(struct state *state, struct args *args)
{
	args->other_parent = pick_dir(state);
	args->other = -1;
	draw_name(state, args->other_name);
	return state->model.count < MAX_NODES - 1 &&
	       model_path(&state->model, args->other_parent, args->other_name, args->other_path);
}
