#include "tools/replay.h"
int sn_life_create(struct sn_replay *r) { (void)r; return 0; }
void sn_life_destroy(struct sn_life *life) { (void)life; }
void sn_life_event(struct sn_replay *r, const struct sn_trace_event *event) { (void)r; (void)event; }
void sn_life_command(struct sn_replay *r, const struct sn_cover *cover) { (void)r; (void)cover; }
int sn_life_draw(struct sn_replay *r) { (void)r; return 0; }
